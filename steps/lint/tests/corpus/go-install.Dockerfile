FROM golang:1.22
RUN go install github.com/a/b@latest
RUN go install github.com/a/b@v1.2.3
RUN go install github.com/a/b
RUN go get example.com/x
RUN go install ./cmd/...
