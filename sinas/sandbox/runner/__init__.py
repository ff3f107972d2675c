"""What runs inside a sandbox: a warm parent that forks one fresh process per call.

Standard library only and no import of the platform: this folder alone is copied into the
executor image, where the package is called `runner`. Hence the relative imports.
"""
