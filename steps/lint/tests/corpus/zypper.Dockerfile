FROM opensuse/leap:15.5
RUN zypper install httpd
RUN zypper install -y httpd=2.4 && zypper clean
RUN zypper -n in httpd && zypper clean --all
RUN zypper dup
RUN zypper --non-interactive install 'httpd>=2' && zypper cc -a
RUN zypper in -y httpd.rpm && zypper clean
