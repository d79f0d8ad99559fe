# One image for everything that runs recstream's or Prefect's code: workers, Prefect server, offline ranker. What tells
# their health differs, and stands with each of them in docker-compose.yml.

FROM python:3.13.13-slim-trixie AS build
WORKDIR /source
COPY deploy/requirements.txt .
# The pins of a checkout without its development tools: what runs is what was tested.
RUN python -m venv --without-pip /opt/recstream \
    && python -m venv /opt/tools \
    && /opt/tools/bin/pip --python /opt/recstream install --no-cache-dir --no-deps --require-hashes -r requirements.txt
COPY . .
RUN /opt/tools/bin/pip --python /opt/recstream install --no-cache-dir --no-deps --no-build-isolation --no-index .

FROM python:3.13.13-slim-trixie
RUN useradd --create-home --uid 10001 recstream
COPY --from=build /opt/recstream /opt/recstream
ENV PATH=/opt/recstream/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /home/recstream
CMD ["recstream", "--help"]
