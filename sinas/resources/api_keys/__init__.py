"""API keys: long-lived credentials that never allow more than their owner may do now."""
