FROM debian:12
ARG NPM_TOKEN
ENV API_KEY=secret123
ENV DB_PASSWORD_FILE=/run/secrets/db
ENV AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE
RUN git clone https://bob:hunter2@example.com/a.git
COPY .env id_rsa /root/
