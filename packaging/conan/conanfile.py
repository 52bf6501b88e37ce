"""Conan 2 recipe of the checkout that it lies in."""
import os

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy
from conan.tools.system.package_manager import Apt


class Attend(ConanFile):
    name = "attend"
    version = "0.1.0"
    license = "Apache-2.0"
    description = "Multi-head attention on NVIDIA GPUs and CPUs"
    settings = "os", "arch", "compiler", "build_type"
    options = {"cuda": [True, False], "architectures": ["ANY"], "head_dims": ["ANY"]}
    default_options = {"cuda": False, "architectures": "80;90", "head_dims": "32;64;96;128;192;256"}

    def export_sources(self):
        root = os.path.join(self.recipe_folder, "..", "..")
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "cuda/*", "host/*", "include/*"):
            copy(self, pattern, root, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def system_requirements(self):
        Apt(self).install(["libdnnl-dev", "ocl-icd-opencl-dev", "libcjson-dev", "libpng-dev"])

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["ATTEND_CUDA"] = "ON" if self.options.cuda else "OFF"
        toolchain.cache_variables["ATTEND_ARCHITECTURES"] = str(self.options.architectures)
        toolchain.cache_variables["ATTEND_HEAD_DIMS"] = str(self.options.head_dims)
        toolchain.cache_variables["ATTEND_TESTS"] = "OFF"
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):
        self.cpp_info.set_property("cmake_find_mode", "none")  # attend brings its own
        self.cpp_info.builddirs.append(os.path.join("lib", "cmake", "attend"))
        self.cpp_info.libs = ["attend", "attend_checkpoint"]
