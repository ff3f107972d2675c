"""Where the bytes of files are: a directory, or a server that speaks S3."""
