"""The kernels without Python, here and on emulated processors: with NEON, and without AVX."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CROSS = "aarch64-linux-gnu-g++"
X86 = platform.machine() in ("x86_64", "AMD64")

pytestmark = pytest.mark.slow


def needs(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")


def output(*words):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def driver(folder, *options):
    """`csrc/tests/driver.cpp` and the library, built; it tries every operation against loops."""
    beside = Path(sys.executable).with_name("cmake")
    cmake = beside if beside.exists() else shutil.which("cmake")
    output(cmake, "-S", ROOT, "-B", folder, *options)
    output(cmake, "--build", folder, "--target", "driver")
    return folder / "driver"


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    needs("c++")
    return driver(tmp_path_factory.mktemp("native"))


def test_every_instruction_set_of_this_processor_computes_what_loops_do(native):
    assert "portable, 3 threads: 0 of " in output(native)


@pytest.mark.skipif(not X86, reason="emulates an x86 processor")
def test_a_processor_without_avx_runs_the_portable_kernels(native):
    # An instruction that it does not have would end the driver, one in a shared template too.
    needs("qemu-x86_64")
    output("qemu-x86_64", "-cpu", "Nehalem", native, "portable")


def test_neon_computes_what_loops_do(tmp_path):
    needs(CROSS, "qemu-aarch64")
    neon = driver(
        tmp_path,
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={CROSS}",
    )
    libraries = Path(output(CROSS, "-print-file-name=libc.so.6").strip()).resolve().parents[1]
    output("qemu-aarch64", "-L", libraries, neon, "neon", "portable")
