"""The one owner of OpenTelemetry: what a message caused, from request to function, as one trace."""
