#!/bin/sh
# Make a picture with curl and save it.
#
#     REPLICATE_BASE_URL=http://127.0.0.1:3589/replicate REPLICATE_API_TOKEN=any sh picture.sh
set -eu

output=$(curl -sf "$REPLICATE_BASE_URL/v1/models/black-forest-labs/flux-1.1-pro-ultra/predictions" \
  -H "Authorization: Bearer $REPLICATE_API_TOKEN" -H 'Content-Type: application/json' -H 'Prefer: wait' \
  -d '{"input": {"prompt": "a lighthouse", "aspect_ratio": "3:2"}}' \
  | sed 's/.*"output":"\([^"]*\)".*/\1/')
curl -sf "$output" -o picture.jpg
echo "saved $output"
