FROM python:3.12-slim
RUN pip install flask
RUN pip install --no-cache-dir flask==3.0.0 'requests>=2'
RUN pip3 install --no-cache-dir -r requirements.txt
RUN python -m pip install --no-cache-dir flask
RUN python3 -m pip install --upgrade pip
RUN pip install --no-cache-dir .
RUN pip install --no-cache-dir git+https://example.com/a/b.git@v1#egg=b
RUN pip install --no-cache-dir ./dist/a.whl
RUN --mount=type=cache,target=/root/.cache/pip pip install flask==3
RUN PIP_NO_CACHE_DIR=1 pip install flask==3
RUN pip install -c constraints.txt --no-cache-dir flask
RUN pipx install black
RUN pip install --no-cache-dir "flask[async]" -i https://example.com/simple
