#!/usr/bin/env bash
# Steps 1 to 3 of the service profiling guide, in the current folder, with a server on this machine.
#
#   MODEL      model to serve (default: Qwen/Qwen2.5-0.5B-Instruct)
#   PORT       port of the server (default: 8000)
#   VLLM_ARGS  further arguments of vllm serve
set -euo pipefail
model=${MODEL:-Qwen/Qwen2.5-0.5B-Instruct}
port=${PORT:-8000}

# 1 Preparation
export SERVICE_PROF_CONFIG_PATH=ms_service_profiler_config.json
# shellcheck disable=SC2086 # words of their own
vllm serve "$model" --port "$port" ${VLLM_ARGS:-} &
server=$!
trap 'kill "$server" 2>/dev/null && wait "$server" || true' EXIT

until curl --silent --fail --output /dev/null "http://localhost:$port/health"; do
    kill -0 "$server" 2>/dev/null || { echo "vllm serve ended before it was ready" >&2; exit 1; }
    sleep 1
done

# 2 Enable Profiling
sed -i 's/"enable":\s*0/"enable": 1/' ./ms_service_profiler_config.json
sleep 2 # the processes see the change within a second

# 3 Send Requests
curl "http://localhost:$port/v1/completions" \
    -H "Content-Type: application/json"  \
    -d '{
         "model": "'"$model"'",
        "prompt": "Beijing is a",
        "max_tokens": 5,
        "temperature": 0
}' | python3 -m json.tool

# what a server does at its end is its own time: SIGTERM, then wait
kill "$server"
wait "$server" || true
trap - EXIT
