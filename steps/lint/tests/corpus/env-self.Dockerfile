FROM debian:12
ENV A=1 B=$A
ENV C=$A D=$B
ENV E=${E:-x}
ENV PATH=/x:$PATH
ENV F=1 \
    G="${F}/x"
