FROM golang:1.22 AS builder
WORKDIR /build
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=linux go build -a -installsuffix cgo \
    -ldflags '-w -s -extldflags "-static"' \
    -o app .

FROM scratch
COPY --from=builder /build/app /app
USER 65534:65534
EXPOSE 8080
ENTRYPOINT ["/app"]
