FROM debian:12
COPY a.tar.gz /tmp/
RUN tar -xzf /tmp/a.tar.gz -C /opt
COPY b.zip /tmp/b.zip
RUN unzip /tmp/b.zip
COPY c.tar.xz /opt/c.tar.xz
RUN echo c
COPY d.tgz d.tgz
RUN tar xf d.tgz
