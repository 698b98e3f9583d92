#!/bin/sh
# A text in, an audio file out, by curl alone: `python -m daemon --openai-port 8766` runs.
#   sh examples/curl.sh "Good morning." morning.opus
set -eu
text=$1
out=$2
base=${BASE_URL:-http://127.0.0.1:8766/v1}
format=${out##*.}

# JSON of any text: python quotes it.
body=$(TEXT=$text FORMAT=$format python3 -c '
import json, os
print(json.dumps({"input": os.environ["TEXT"], "voice": "alloy", "response_format": os.environ["FORMAT"]}))')

curl --fail-with-body --silent --show-error --no-buffer "$base/audio/speech" \
	-H "Authorization: Bearer ${OPENAI_API_KEY:-none}" \
	-H "Content-Type: application/json" --data "$body" --output "$out"
# To hear it while it is made: response_format pcm, and
#   curl ... | aplay -q -t raw -f S16_LE -c 1 -r 24000 -
