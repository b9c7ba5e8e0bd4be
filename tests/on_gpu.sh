#!/usr/bin/env bash
# What only a GPU can show, most important first, in at most nine minutes: run it from the repository's root.
#
#   bash tests/on_gpu.sh [OUT]          OUT (default: gpu_out) gets the JSON of each part, the log and table.txt
#   bash tests/on_gpu.sh --dry [OUT]    the same parts on a CPU, at small shapes, to see that all of them run
#
# It needs PyTorch, transformers, what minivlm needs, pytest and hypothesis, and no network: weights are made here.
# Each part has a time limit of its own; one that fails does not stop the others, but the script then ends with 1.
set -u
dry=
[ "${1:-}" = --dry ] && dry=1 && shift
out=${1:-${OUT:-gpu_out}}
mkdir -p "$out"
export PYTHONPATH=$PWD:$PWD/tests PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
python=${PYTHON:-python3} device=cuda failed=
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
[ -n "$dry" ] && device=cpu
part() { # NAME SECONDS COMMAND...: run it under its limit; what it prints goes to the log
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    echo "=== $name"
    timeout -k 5 "$limit" "$@" || { echo "FAILED: $name ended with $?"; failed=1; }
    echo "--- $name: $((SECONDS - start)) s"
}
bench() { # NAME SECONDS MODEL ARGUMENTS...
    local name=$1 limit=$2 model=$3
    shift 3
    part "$name" "$limit" bash -c "$python -m minivlm bench --model '$model' --device $device --dtype bf16 --json $* > '$out/$name.json'"
}
peers() { # NAME SECONDS MODEL ARGUMENTS...
    local name=$1 limit=$2 model=$3
    shift 3
    part "peers of $name" "$limit" bash -c "$python tests/peers.py '$model' --device $device $* > '$out/$name-peers.json'"
}
tests="$python -m pytest -q -p no:cacheprovider -o addopts= -m cuda"
{
    part machine 20 bash -c "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv 2> /dev/null
        $python -c \"import torch, transformers; print('torch', torch.__version__, 'transformers', transformers.__version__)\""
    if [ -n "$dry" ]; then
        part tests 100 bash -c "$tests --collect-only \$(grep -l mark.cuda tests/test_*.py)"
        bench tiny 60 tiny --new 16 --repeats 1 --pictures 2
        peers tiny 200 weights/tiny --new 16 --repeats 1 --kinds sdpa,eager,eah
    else
        part tests 80 bash -c "$tests \$(grep -l mark.cuda tests/test_*.py)"
        bench tiny 40 tiny --new 64 --repeats 5
        part "make 7B" 100 $python -m minivlm make-random "$made/7b"
        bench 7B 90 "$made/7b" --prompt 700 --new 64 --repeats 3 --clva gate=off --pictures 32
        bench 7B-compiled 90 "$made/7b" --prompt 700 --new 64 --repeats 3 --methods compiled,batch,compiled-batch --rows none
        peers 7B 60 "$made/7b" --prompt 700
        part "make 0.5B" 20 $python -m minivlm make-random "$made/0.5b" --like llava-interleave-qwen-0.5b
        bench 0.5B 20 "$made/0.5b" --new 64 --repeats 3 --clva gate=off
    fi
    part table 20 $python tests/support/gpu_table.py "$out"
    [ -z "$failed" ] || echo "At least one part failed: see above."
} 2>&1 | tee "$out/log"
grep -q "^FAILED" "$out/log" && exit 1
exit 0
