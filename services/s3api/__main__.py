from s3api.manage import main

main(prog_name="s3api")
