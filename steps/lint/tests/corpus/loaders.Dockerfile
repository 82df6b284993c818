FROM debian:12
RUN wget http://example.com/a
RUN curl -O http://example.com/b
FROM debian:12
RUN curl http://example.com/a && wget -q http://example.com/b
FROM debian:12
RUN wget --progress=dot:giga http://example.com/c
RUN wget -nv http://example.com/c
RUN wget -O x http://example.com/c
