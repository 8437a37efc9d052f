"""Samples: several recorded fields in two replicates, pooled and checked against each other as the WHO manual asks."""
