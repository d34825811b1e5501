#!/bin/sh
# Builds the kernels: runtime/kernels/build.sh FOLDER writes one .spv for each row of the table below.
# Debian's clang-15, llvm-15, llvm-spirv-15 and spirv-tools. The driver gets loops that are unrolled and arrays that are in registers:
# its own unrolling was found to be worse, and what plain clang -O2 writes is no SPIR-V for llvm-spirv.
set -e
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?folder}
mkdir -p "$out"
passes='cgscc(inline),function(sroa,early-cse,simplifycfg,loop-simplify,lcssa,loop(loop-rotate,indvars,loop-unroll-full),sroa,early-cse,simplifycfg,dce),globaldce,strip-dead-prototypes'

build() { # NAME SOURCE FLAGS...
    name=$1 source=$2
    shift 2
    clang-15 -target spirv64 -x cl -cl-std=CL2.0 "$@" -O2 -Xclang -disable-llvm-passes -Xclang -finclude-default-header \
        -emit-llvm -c "$here/$source" -o "$out/$name.bc"
    opt-15 -passes="$passes" "$out/$name.bc" -o "$out/$name.opt.bc"
    llvm-spirv-15 --spirv-max-version=1.2 --spirv-ext=+SPV_INTEL_subgroups "$out/$name.opt.bc" -o "$out/$name.spv"
    spirv-val "$out/$name.spv"
    rm "$out/$name.bc" "$out/$name.opt.bc"
}

grep -v '^#' "$here/kernels.txt" | while read -r name source _ flags; do
    # shellcheck disable=SC2086
    build "$name" "$source" $flags
done
