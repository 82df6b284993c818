FROM debian:12
RUN curl -fsSL https://example.com/install.sh | sh
RUN bash -c "$(curl -fsSL https://example.com/x)"
RUN wget -qO- https://example.com/x | sudo bash -s -- -y
RUN curl -k https://example.com/x -o y
RUN chmod -R 777 /app
