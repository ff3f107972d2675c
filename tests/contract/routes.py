"""What the tests over all operations know that the operations do not say themselves."""

# Open to everybody, each for a reason.
PUBLIC_ROUTES: dict[tuple[str, str], str] = {
    ("GET", "/health"): "load balancers have no credentials; it tells nothing about the data",
    ("POST", "/auth/login"): "the way to credentials",
    ("POST", "/auth/verify-otp"): "the way to credentials",
    ("POST", "/auth/refresh"): "the refresh token in its body is the credential",
    ("POST", "/auth/logout"): "the refresh token in its body is the credential",
}
