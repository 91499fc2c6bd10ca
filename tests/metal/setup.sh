#!/usr/bin/env bash
# Installs what tests/metal needs: Debian packages where they are missing, and a few wheels, which stay in a cache folder
# (RWKVNATIVE_METAL_TOOLS, by default ~/.cache/rwkvnative-metal). Does nothing where everything is there. Nothing of it is
# ever committed: declarations are generated from it, and compared with it, each time anew.
set -euo pipefail
folder=${RWKVNATIVE_METAL_TOOLS:-$HOME/.cache/rwkvnative-metal}
python=${PYTHON:-python3}
mkdir -p "$folder"

missing=()
need() { [[ -e $1 ]] || missing+=("$2"); }
need /usr/bin/clang++-19 clang-19
need /usr/bin/llvm-symbolizer-19 llvm-19
need /usr/include/GNUstep/Foundation/Foundation.h libgnustep-base-dev
need /usr/include/Block.h libblocksruntime-dev
compgen -G '/usr/lib/gcc/x86_64-linux-gnu/*/include/objc/objc.h' >/dev/null || missing+=(gobjc++)
if ((${#missing[@]})); then
  sudo=$( ((EUID == 0)) || echo sudo )
  $sudo apt-get update -qq
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Clang as a cross compiler to macOS, and libclang, which lists the messages that a source sends.
if [[ ! -e $folder/venv/installed ]]; then
  "$python" -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q ziglang==0.17.1 libclang==18.1.1
  touch "$folder/venv/installed"
fi

# wheel NAME VERSION PLATFORM FOLDER: a wheel for another system, unpacked.
wheel() {
  [[ -e $folder/$4/unpacked ]] && return
  local downloads=$folder/downloads
  "$folder/venv/bin/pip" download -q --no-deps --only-binary=:all: --platform "$3" --python-version 3.12 --implementation cp \
    -d "$downloads" "$1==$2"
  rm -rf "${folder:?}/$4"
  "$python" -m zipfile -e "$(find "$downloads" -iname "${1//-/_}-$2-*.whl")" "$folder/$4"
  touch "$folder/$4/unpacked"
}
wheel mlx-metal 0.32.4 macosx_14_0_arm64 mlx                          # metal-cpp: Apple's declarations of Metal, as C++
wheel pyobjc-framework-Metal 12.2.2 macosx_10_13_universal2 pyobjc  # the same, as Apple's compiler and SDK have them
wheel pyobjc-framework-Metal 9.2 macosx_10_9_universal2 pyobjc-sdk13  # as the oldest SDK has them that builds the package
# The oldest compiler and C++ library for it: those of LLVM 16, as Xcode 15.0 to 15.2 has them, the last ones for macOS 13.
wheel ziglang 0.11.0 manylinux_2_12_x86_64 zig-llvm16
chmod +x "$folder/zig-llvm16/ziglang/zig"
