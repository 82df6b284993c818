FROM node:20
RUN npm install
RUN npm install -g yarn
RUN npm install -g typescript@5.4.2 @angular/cli@17
RUN npm install @scope/name
RUN npm install express@latest
RUN npm install ./local git+https://example.com/a.git#v1
RUN npm ci
RUN npm install --production
RUN npm i express
