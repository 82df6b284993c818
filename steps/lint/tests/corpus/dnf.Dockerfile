FROM fedora:40
RUN dnf install httpd
RUN dnf install -y httpd-2.4.57 && dnf clean all
RUN microdnf install -y httpd && microdnf clean all
RUN dnf -y install httpd && dnf clean all
RUN --mount=type=cache,target=/var/cache/dnf dnf install -y httpd-2
RUN dnf install -y httpd && rm -rf /var/cache/dnf
RUN dnf module enable -y nodejs:20
