# One image for everything that runs recstream's or Prefect's code: flows, Prefect server, offline ranker.

FROM python:3.13.13-slim-trixie AS build
WORKDIR /source
COPY requirements.txt .
# The same pins as in a checkout, development tools included: what runs is what was tested.
RUN python -m venv /opt/recstream \
    && /opt/recstream/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt
COPY . .
RUN /opt/recstream/bin/pip install --no-cache-dir --no-deps --no-build-isolation --no-index .

FROM python:3.13.13-slim-trixie
RUN useradd --create-home --uid 10001 recstream
COPY --from=build /opt/recstream /opt/recstream
ENV PATH=/opt/recstream/bin:$PATH \
    PYTHONUNBUFFERED=1
USER recstream
WORKDIR /home/recstream
CMD ["recstream", "--help"]
