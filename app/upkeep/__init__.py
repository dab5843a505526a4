"""What keeps an archive honest: sweep, verify, reindex."""
