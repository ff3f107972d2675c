# The platform: one image for the API, both workers, scheduler and CDC. Databases are others' work.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_BREAK_SYSTEM_PACKAGES=1 \
    MALLOC_ARENA_MAX=2

WORKDIR /srv/sinas

# No virtual environment: the image is one. The locks first: a change of code alone does not install anything again.
COPY requirements/server.txt requirements/build.txt requirements/embeddings.txt requirements/
RUN python3 -m pip install --require-hashes -r requirements/server.txt -r requirements/build.txt \
    && python3 -m pip install --require-hashes --no-deps -r requirements/embeddings.txt

COPY pyproject.toml README.md LICENSE alembic.ini ./
COPY migrations migrations
COPY sinas sinas
RUN python3 -m pip install --no-deps --no-build-isolation --no-index -e . \
    && python3 -m compileall -q sinas \
    && useradd --system --uid 10001 --home-dir /srv/sinas --shell /usr/sbin/nologin sinas \
    && mkdir -p /var/lib/sinas /var/sinas/files && chown sinas: /var/lib/sinas /var/sinas/files

ENV SINAS_HOST=0.0.0.0 SINAS_DATA_DIR=/var/lib/sinas
USER sinas
EXPOSE 8000
CMD ["sinas", "serve"]
