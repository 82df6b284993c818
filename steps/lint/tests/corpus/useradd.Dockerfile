FROM debian:12
RUN useradd -u 123456 foo
RUN useradd -l -u 123456 foo
RUN useradd -u 12345 foo
RUN useradd --uid 1234567 bar
RUN useradd --no-log-init -u 123456 foo
RUN useradd foo
