# escape=`
FROM mcr.microsoft.com/windows/servercore:ltsc2022
SHELL ["powershell", "-Command"]
RUN Get-Process notepad | `
    Stop-Process
WORKDIR C:\app
COPY a.txt b.txt C:\app\
