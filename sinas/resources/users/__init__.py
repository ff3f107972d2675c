"""Users: who exists, and what ends when one leaves."""
