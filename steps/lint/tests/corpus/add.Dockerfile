FROM debian:12
ADD file /x/
ADD archive.tar.gz /x/
ADD https://example.com/file /x/
ADD --checksum=sha256:c5b1261d6d3e43071626931fc004f70149baeba2c8ec672bd4f27761f8e1ad6b https://example.com/file2 /x/
ADD . /src
ADD --chown=a:b dir /dir
ADD ["a b", "/x/"]
ADD https://example.com/git.git#v1 /x
ADD $FILE /x
ADD *.txt /x/
ADD archive.zip /x
