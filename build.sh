#!/usr/bin/env bash
# build the extension in place (editable)
set -e; cd /tmp/wt/lead
export CCACHE_DIR=/tmp/ccache CCACHE_BASEDIR=/tmp/wt/lead CCACHE_NOHASHDIR=1 CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_BUILD_PARALLEL_LEVEL=2
nice -n 5 .venv/bin/python -m pip install -q --no-build-isolation --no-deps -e . -Cbuild-dir=/tmp/wt/lead/build/dev "$@"
