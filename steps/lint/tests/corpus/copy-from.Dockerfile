FROM debian:12 AS build
RUN make
FROM debian:12 AS test
COPY --from=build /a /a
COPY --from=bulid /a /a
COPY --from=test /a /a
COPY --from=later /a /a
COPY --from=0 /a /a
COPY --from=1 /a /a
COPY --from=9 /a /a
COPY --from=nginx:1.25 /a /a
COPY --from=docker.io/library/nginx /a /a
COPY --from=nginx /a /a
FROM debian:12 AS later
RUN make
