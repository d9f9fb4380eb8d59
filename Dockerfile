# Not tried yet. CPU only:  docker build -t axiom-bench .  &&  docker run --rm -v "$PWD/results:/work/results" axiom-bench
FROM python:3.11-slim
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu 'torch>=2.6,<3' 'torchvision>=0.21,<1'
COPY . /src
RUN pip install --no-cache-dir /src && rm -r /src
WORKDIR /work
ENTRYPOINT ["axiom-bench"]
