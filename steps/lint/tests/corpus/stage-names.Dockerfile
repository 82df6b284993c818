FROM debian:12 AS a
FROM debian:12 AS a
FROM debian:12 as b
FROM a AS scratch
FROM debian:12 AS context
