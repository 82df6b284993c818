FROM python:3.11
WORKDIR /app
RUN apt-get update
RUN apt-get install -y curl
RUN apt-get install -y vim
RUN apt-get install -y git
COPY . .
RUN pip install -r requirements.txt
CMD ["python", "app.py"]
