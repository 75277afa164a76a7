"""Make a picture with the official Python client and save it.

pip install replicate
REPLICATE_BASE_URL=http://127.0.0.1:3589/replicate REPLICATE_API_TOKEN=any python picture.py
"""

import urllib.request

import replicate

output = replicate.run(
    "black-forest-labs/flux-1.1-pro-ultra", input={"prompt": "a lighthouse", "aspect_ratio": "3:2"}
)
urllib.request.urlretrieve(str(output), "picture.jpg")
print("saved", output)
