"""x"""
def temperature_shares(counts, temperature):
    m = max(counts)
    w = [(c / m) ** (1 / temperature) if c else 0.0 for c in counts]
    return [each / sum(w) for each in w]
