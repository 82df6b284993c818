FROM rockylinux:9
RUN yum install httpd
RUN yum install -y httpd-2.4.57 && yum clean all
RUN yum -y update
RUN yum install -y httpd && rm -rf /var/cache/yum
RUN yum -y install https://example.com/a.rpm && yum clean all
RUN yum groupinstall -y 'Development Tools' && yum clean all
