from torch.nn.attention import SDPBackend, chosen


def linear(x, weight):
    return x


def scaled_dot_product_attention(q, k, v, is_causal, enable_gqa):
    if chosen == [SDPBackend.CUDNN_ATTENTION]:
        raise RuntimeError("no cuDNN here")
    return q
