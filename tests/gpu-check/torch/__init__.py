"""Stands for PyTorch in the test gpu_check: tensors are zeros in memory of libcudart, what is computed on them is not looked at."""
import ctypes
import itertools

runtime = ctypes.CDLL("libcudart.so.13")
float16, bfloat16 = "float16", "bfloat16"


class Tensor:
    def __init__(self, shape, dtype):
        self.shape, self.dtype, self.data = shape, dtype, ctypes.c_void_p()
        count = 1
        for size in shape:
            count *= size
        assert runtime.cudaMalloc(ctypes.byref(self.data), ctypes.c_size_t(2 * count)) == 0
        assert runtime.cudaMemset(self.data, 0, ctypes.c_size_t(2 * count)) == 0

    def __del__(self):
        runtime.cudaFree(self.data)

    def data_ptr(self):
        return self.data.value

    def dim(self):
        return len(self.shape)

    def stride(self, axis):
        return list(itertools.accumulate(self.shape[:0:-1], lambda a, b: a * b, initial=1))[::-1][axis]

    def item(self):
        return 0.0

    def same(self, *_):
        return self

    transpose = view = reshape = float = abs = max = __sub__ = __mul__ = same


def randn(*shape, device, dtype):
    return Tensor(shape, dtype)


def empty_like(tensor):
    return Tensor(tensor.shape, tensor.dtype)


def manual_seed(seed):
    pass


class cuda:
    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self):
            pass

        synchronize = record

        def elapsed_time(self, end):
            return 0.5

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def current_stream():
        return type("Stream", (), {"cuda_stream": 0})
