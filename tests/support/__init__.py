"""What tests share: tiny models and tokenizers, runs without a model, oracles, and the course's judges."""
