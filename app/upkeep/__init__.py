"""What keeps an archive honest: import, sweep, verify, reindex."""
