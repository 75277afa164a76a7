FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
COPY requirements/serve.txt /tmp/serve.txt
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/serve.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl && useradd --system mockserver
USER mockserver
EXPOSE 3589
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3589/__admin/health')"]
ENTRYPOINT ["mockserver"]
CMD ["serve", "--host", "0.0.0.0"]
