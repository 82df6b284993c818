FROM debian:12
COPY a b /c
COPY a b /c/
COPY ["a", "b", "/c"]
COPY a b ./
COPY rel rel2
WORKDIR /x
COPY a b
COPY a b .
COPY a b $DEST
