"""`sinas up`: PostgreSQL, Redis, the offline model and all processes under one supervisor."""
