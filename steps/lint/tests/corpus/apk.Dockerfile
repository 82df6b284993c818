FROM alpine:3.19
RUN apk add curl
RUN apk add --no-cache curl=8.5.0-r0
RUN apk --no-cache add curl git~2
RUN apk add --no-cache --virtual .build-deps gcc musl-dev && apk del .build-deps
RUN apk update && apk add curl=1 && rm -rf /var/cache/apk/*
RUN apk upgrade
RUN --mount=type=cache,target=/var/cache/apk apk add curl=1
RUN apk add --no-cache -t .deps curl>8
