"""What a language model costs in serving: prefill, decoding, and the cache of keys and values."""
