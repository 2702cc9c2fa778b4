#!/bin/sh
# Installs ecotta_rt as a device has it: the base dependencies and our wheel, nothing that compiles, no torch.
# The one recipe of Dockerfile.arm64 and of scripts/arm64-smoke, so that what is tried is what is shipped.
#
#   device-install.sh TARGET WHEEL CONSTRAINTS [pip option ...]
#
# TARGET       the virtual environment to make, an absolute path; it must not exist. It has no pip of its own
# WHEEL        our wheel, from `make wheel`
# CONSTRAINTS  constraints.txt: the exact versions
# pip options  for instance --no-index --find-links FOLDER, to install without a network
#
# $PYTHON is the interpreter (default python3); it needs venv and pip.
set -eu

fail() {
    echo "device-install: $1" >&2
    exit "${2:-1}"
}

[ $# -ge 3 ] || fail "give TARGET WHEEL CONSTRAINTS [pip option ...]" 2
target=$1 wheel=$2 constraints=$3
shift 3
python=${PYTHON:-python3}

case $target in /*) ;; *) fail "$target: give an absolute path, since scripts in the environment will name it" 2 ;; esac
[ ! -e "$target" ] || fail "$target is there already: remove it, or name another folder" 2
[ -f "$wheel" ] || fail "$wheel: no such wheel; make one with: make wheel" 2
[ -f "$constraints" ] || fail "$constraints: no such file" 2

"$python" -m venv --without-pip "$target"
# Bytecode is written below, once, after the trimming.
"$python" -m pip --python "$target/bin/python" install --quiet --disable-pip-version-check --no-cache-dir \
    --no-compile --only-binary=:all: --constraint "$constraints" "$@" "$wheel"

packages=$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# The wheel of onnxruntime holds its core twice: Python loads the one in the extension module, and this copy is for
# programs in C. The Python code beside it converts and quantises models, on machines that have torch and onnx.
rm -f "$packages"/onnxruntime/capi/libonnxruntime.so*
for folder in datasets quantization tools transformers; do
    rm -rf "$packages/onnxruntime/$folder"
done
find "$packages/numpy" -type d -name tests -prune -exec rm -rf {} +

# A read-only root cannot keep bytecode, and compiling numpy anew at each start takes seconds on a small board. Checked
# by nothing but itself: copying files into an image may change their times.
"$target/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$packages" ||
    fail "some of $packages cannot be compiled to bytecode"

[ ! -e "$packages/torch" ] || fail "torch was installed: a base dependency of the wheel asks for it"
