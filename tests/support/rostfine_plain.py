"""RoSTFine as the paper's equations and the authors' program have it, in slow NumPy with loops: an oracle.

Written from the equations, clip by clip, frame by frame, head by head and token by token; it shares nothing with
``casa.grade`` but the names of the weights.
"""

import math

import numpy as np


def layer_norm(x, weights, name, eps):
    out = np.empty_like(x)
    for i, row in enumerate(x):
        mean = row.mean()
        variance = ((row - mean) ** 2).mean()
        out[i] = (row - mean) / math.sqrt(variance + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return out


def linear(x, weights, name):
    out = np.stack([weights[f"{name}.weight"] @ row for row in x])
    return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out


def softmax(row):
    e = np.exp(row - row.max())
    return e / e.sum()


def gelu(x):
    return np.array([[0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in row] for row in x])


def mlp(x, weights, name):
    return linear(gelu(linear(x, weights, f"{name}.fc1")), weights, f"{name}.fc2")


def attention(x, weights, name, heads):
    """(n, d) to (n, d), and the map (heads, n, n)."""
    n, d = x.shape
    size = d // heads
    qkv = linear(x, weights, f"{name}.qkv")
    q, k, v = qkv[:, :d], qkv[:, d : 2 * d], qkv[:, 2 * d :]
    out, maps = np.zeros((n, d)), np.zeros((heads, n, n))
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        for i in range(n):
            maps[h, i] = softmax(np.array([q[i, part] @ k[j, part] for j in range(n)]) / math.sqrt(size))
            for j in range(n):
                out[i, part] += maps[h, i, j] * v[j, part]
    return linear(out, weights, f"{name}.proj"), maps


def patches_of(frame, patch):
    """(3, h, w) to rows (n, 3 * patch * patch), from the top left, row by row."""
    rows = []
    for top in range(0, frame.shape[1], patch):
        for left in range(0, frame.shape[2], patch):
            rows.append(frame[:, top : top + patch, left : left + patch].ravel())
    return np.array(rows)


def encode(clip, weights, config):
    """TimeSformer (Eq. 1 to 3): [CLS] (d,), patches (t, n, d), spatial maps [layer][t] (heads, 1 + n, 1 + n)."""
    d, t = config.width, config.frames
    embed = {"e.weight": weights["encoder.patch_embed.proj.weight"].reshape(d, -1)}
    embed["e.bias"] = weights["encoder.patch_embed.proj.bias"]
    places, times = weights["encoder.pos_embed"][0], weights["encoder.time_embed"][0]
    x = [linear(patches_of(clip[:, i], config.patch_px), embed, "e") for i in range(t)]
    x = np.array([x[i] + places[1:] + times[i] for i in range(t)])  # (t, n, d)
    cls = weights["encoder.cls_token"][0, 0] + places[0]
    n = x.shape[1]
    maps = []
    for layer in range(config.depth):
        name = f"encoder.blocks.{layer}"
        for p in range(n):
            over_time = layer_norm(x[:, p], weights, f"{name}.temporal_norm1", 1e-6)
            over_time, _ = attention(over_time, weights, f"{name}.temporal_attn", config.heads)
            x[:, p] = x[:, p] + linear(over_time, weights, f"{name}.temporal_fc")
        maps.append([])
        of_cls = []
        for i in range(t):
            frame = layer_norm(np.vstack([cls, x[i]]), weights, f"{name}.norm1", 1e-6)
            over_space, found = attention(frame, weights, f"{name}.attn", config.heads)
            maps[-1].append(found)
            of_cls.append(over_space[0])
            x[i] = x[i] + over_space[1:]
        cls = cls + np.mean(of_cls, axis=0)
        cls = cls + mlp(layer_norm(cls[None], weights, f"{name}.norm2", 1e-6), weights, f"{name}.mlp")[0]
        for i in range(t):
            x[i] = x[i] + mlp(layer_norm(x[i], weights, f"{name}.norm2", 1e-6), weights, f"{name}.mlp")
    cls = layer_norm(cls[None], weights, "encoder.norm", 1e-6)[0]
    return cls, np.array([layer_norm(x[i], weights, "encoder.norm", 1e-6) for i in range(t)]), maps


def paper_branch(g, weights, name, config, norm_before_mlp):
    for block in range(config.branch_depth):
        g = layer_norm(g, weights, f"{name}.norm1.{block}", 1e-5)
        g, _ = attention(g, weights, f"{name}.attention.{block}", config.branch_heads)
        if norm_before_mlp:
            g = layer_norm(g, weights, f"{name}.norm2.{block}", 1e-5)
        g = mlp(g, weights, f"{name}.mlp.{block}")
    return g[0]


def authors_branch(g, weights, name, config):
    for block in range(config.branch_depth):
        g, _ = attention(layer_norm(g, weights, f"{name}.norm1", 1e-5), weights, f"{name}.attention.{block}",
                         config.branch_heads)  # fmt: skip
    return mlp(layer_norm(g, weights, f"{name}.norm2", 1e-5), weights, f"{name}.mlp")[0]


def rostfine(clip, weights, config):
    """One clip (3, t, h, w): {"global", "spatial", "temporal": distributions (5,)}, features, selected (t, k)."""
    authors = config.variant == "authors"
    cls, x, maps = encode(clip, weights, config)
    t, n, _ = x.shape
    selected = np.zeros((t, config.selected), int)
    for i in range(t):
        scores = np.zeros(n)
        for layer in maps[-1:] if authors else maps[-2:]:  # Eq. 4
            for head in layer[i]:
                scores += head[0, 1:]
        selected[i] = np.argsort(-scores)[: config.selected]
    if authors:  # tokens in the order patch by patch, read as if it were frame by frame
        tokens = np.array([x[i, p] for p in range(n) for i in range(t)])
        f = [[tokens[i * n + p] for p in selected[i]] for i in range(t)]
    else:
        f = [[x[i, p] for p in selected[i]] for i in range(t)]  # Eq. 5
    spatial = []
    for i in range(t):
        g = np.array([cls, *f[i]])  # Eq. 6
        spatial.append(authors_branch(g, weights, "spatial", config) if authors
                       else paper_branch(g, weights, "spatial", config, False))  # Eq. 7  # fmt: skip
    g = np.array([cls, *(token for frame in f for token in frame)])  # Eq. 9
    temporal = (authors_branch(g, weights, "temporal", config) if authors
                else paper_branch(g, weights, "temporal", config, True))  # Eq. 10  # fmt: skip
    features = {"global": cls, "spatial": np.mean(spatial, axis=0), "temporal": temporal}  # Eq. 8, 11
    parts = {name: softmax(linear(v[None], weights, f"heads.{name}")[0]) for name, v in features.items()}
    return parts, features, selected


def rollout(maps):
    """Attention rollout of one frame: maps [layer] (heads, 1+n, 1+n) to what [CLS] took of each patch, largest 1."""
    size = maps[0].shape[-1]
    joint = np.eye(size)
    for heads in maps:
        mixed = np.zeros((size, size))
        for head in heads:
            mixed += head / len(heads)
        mixed = (mixed + np.eye(size)) / 2
        joint = mixed @ joint
    return joint[0, 1:] / joint[0, 1:].max()
