import contextlib


class SDPBackend:
    CUDNN_ATTENTION, FLASH_ATTENTION, EFFICIENT_ATTENTION = range(3)


chosen = []


@contextlib.contextmanager
def sdpa_kernel(backends):
    chosen[:] = backends
    yield
