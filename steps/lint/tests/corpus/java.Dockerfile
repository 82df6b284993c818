FROM eclipse-temurin:21-jdk
WORKDIR /app
COPY . .
RUN ./gradlew bootJar
ENTRYPOINT java -jar build/libs/app.jar
