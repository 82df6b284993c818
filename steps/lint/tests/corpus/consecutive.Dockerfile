FROM debian:12
RUN a
RUN b
RUN c && d
RUN e

# a comment
RUN f
ENV A=1
RUN g
RUN --mount=type=cache,target=/x h
RUN i
